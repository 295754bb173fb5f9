"""The parts of the BrainG3N module. Each is one concept; none imports torch.

Parameters: what a user can set. Requests: settings to engine requests. Volumes: MRML volumes to and from arrays.
Jobs: one run, off the main thread. Worker: where the model runs. Scene, Tables, Timeline: result nodes.
Logic: all of these in order, without Qt. Widget, ComputePanel, Views and Stamp: what is on the screen.
Install, Cache, Samples: what the module brings to a computer.
"""
