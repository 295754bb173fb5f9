"""BrainG3N: probes, counterfactuals and forecasts of a brain MRI in 3D Slicer. The shell; the parts are in BrainG3NLib.

Research software, not for clinical use. torch is never imported into Slicer.
"""

import sys
from pathlib import Path

import slicer
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

ROOT = Path(__file__).resolve().parents[1]
if (ROOT / "braing3n_core").is_dir() and str(ROOT) not in sys.path:  # a checkout; installed, it lies beside us
    sys.path.insert(0, str(ROOT))


class BrainG3N(ScriptedLoadableModule):
    """What Slicer's module list shows."""

    def __init__(self, parent):
        super().__init__(parent)
        parent.title = "BrainG3N"
        parent.categories = ["Quantification"]
        parent.dependencies = []
        parent.contributors = ["The BrainG3N contributors"]
        parent.helpText = (
            "Reads clinical variables from a brain MRI, edits it (counterfactuals) and moves it in time (forecasts). "
            "Everything that a model made is named SYNTHETIC. Research software, not for clinical use."
        )
        parent.acknowledgementText = "Method: arXiv 2606.19651. Licence: Apache-2.0."
        from BrainG3NLib.Samples import register
        slicer.app.connect("startupCompleted()", register)  # SampleData may be loaded after us


class BrainG3NWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Loads the panels and follows the scene."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = self.panels = self.uiWidget = self.parameters = self.guiTag = None

    def setup(self):
        super().setup()
        from BrainG3NLib.Widget import Panels

        self.uiWidget = slicer.util.loadUI(self.resourcePath("UI/BrainG3N.ui"))
        self.layout.addWidget(self.uiWidget)
        self.ui = slicer.util.childWidgetVariables(self.uiWidget)
        self.uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = BrainG3NLogic()
        self.panels = Panels(self.ui, self.logic.verbs)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.bind()

    def bind(self):
        """Connect the panels to the scene's parameter node."""
        self.parameters = self.logic.getParameters()
        self.guiTag = self.parameters.connectGui(self.ui)
        self.panels.setParameters(self.parameters)

    def unbind(self):
        """Let go of the parameter node before it goes away."""
        if self.parameters is not None:
            self.parameters.disconnectGui(self.guiTag)
        self.parameters = None
        self.panels.setParameters(None)

    def enter(self):
        self.panels.probe()

    def onSceneStartClose(self, caller=None, event=None):
        self.panels.sceneCloses()
        self.unbind()

    def onSceneEndClose(self, caller=None, event=None):
        self.bind()

    def onReload(self):
        """Read the package again too, which Slicer's reload of the module's own file leaves as it was."""
        for name in [name for name in sys.modules if name.split(".")[0] == "BrainG3NLib"]:
            del sys.modules[name]
        super().onReload()

    def cleanup(self):
        """Let go of everything: Slicer keeps the old widgets, hidden, when a module is reloaded."""
        self.removeObservers()
        if self.panels is not None:
            self.unbind()
            self.panels.close()
            self.uiWidget.setMRMLScene(None)
            self.panels = None


class BrainG3NLogic(ScriptedLoadableModuleLogic):
    """The parameter node, and ``verbs``: BrainG3NLib.Logic on the application's scene."""

    def __init__(self):
        super().__init__()
        from BrainG3NLib.Logic import Logic

        self.verbs = Logic(slicer.mrmlScene)

    def getParameters(self):
        """The scene's settings of this module."""
        from BrainG3NLib.Parameters import BrainG3NParameters

        return BrainG3NParameters(super().getParameterNode())


class BrainG3NTest(ScriptedLoadableModuleTest):
    """What "Reload and test" runs; it needs no model."""

    def runTest(self):
        from BrainG3NLib.SelfTest import runAll

        slicer.mrmlScene.Clear(0)
        runAll(self)
