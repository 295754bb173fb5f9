"""What only the Slicer application has, for tests without it.

``mrml``: a real MRML scene with Slicer's own logics (slicer-core). ``qtFacade``: PySide6 under the name ``qt``, with
PythonQt's manners. ``widgets``: stand-ins for ctk and qMRML widgets. ``application``: ``slicer.app`` and the bases of
scripted modules. ``pictures``: what is on the screen, as an image.

It cannot prove the quirks of PythonQt, the look of ctk, or the packaging.
"""
