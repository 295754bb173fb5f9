# A worker for one NVIDIA GPU: docs/worker.md. PyTorch's wheels carry CUDA; the host needs only its driver.
FROM python:3.12-slim

RUN useradd --system --uid 10001 --home /spool braing3n && mkdir -m 0700 /spool && chown braing3n /spool
WORKDIR /opt/braing3n
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY braing3n_core braing3n_core
RUN pip install --no-cache-dir -c constraints.txt ".[torch,preprocess,worker,zstd]"

USER 10001
ENV XDG_STATE_HOME=/spool PYTHONUNBUFFERED=1
VOLUME /spool
EXPOSE 8765
HEALTHCHECK --start-period=120s CMD ["python", "-c", \
    "import ssl,urllib.request as r; r.urlopen('https://127.0.0.1:8765/v1/health/ready', context=ssl._create_unverified_context())"]
ENTRYPOINT ["braing3n", "worker"]
# Run `init` once on the same volume first: without a certificate it does not listen beyond the container.
CMD ["--host", "0.0.0.0", "--tls-cert", "/spool/braing3n/worker/worker-cert.pem", \
     "--tls-key", "/spool/braing3n/worker/worker-key.pem"]
