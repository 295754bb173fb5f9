"""The module's own test for Slicer's test run: the same that "Reload and test" does."""

import slicer
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleTest


class BrainG3NModuleTest(ScriptedLoadableModuleTest):
    """Geometry, requests and result nodes in the application's own scene; no model is needed."""

    def setUp(self):
        slicer.mrmlScene.Clear(0)

    def test_a_result_lies_on_the_scans_own_grid(self):
        from BrainG3NLib.SelfTest import runAll

        runAll(self)

    def test_the_parameters_have_their_defaults(self):
        from BrainG3N import BrainG3NLogic

        parameters = BrainG3NLogic().getParameters()
        self.assertEqual((parameters.modality, parameters.horizons), ("T1", "1, 2, 5"))
