"""Every name that the module or the harness takes from the Slicer application, and where Slicer defines it.

The stand-ins offer nothing that is not listed here; ``Testing/slicer/test_names.py`` looks each entry up in Slicer's
own sources when ``SLICER_PYTHON_DIR`` names a whole checkout's Base/Python.
"""

from __future__ import annotations

APPLICATION, CORE = "Base/QTGUI/qSlicerApplication.h", "Base/QTCore/qSlicerCoreApplication.h"
LAYOUT, COMBO = "Libs/MRML/Widgets/qMRMLLayoutManager.h", "Libs/MRML/Widgets/qMRMLNodeComboBox.h"
UTIL, BASES = "Base/Python/slicer/util.py", "Base/Python/slicer/ScriptedLoadableModule.py"

WHERE: dict[str, tuple[str, str]] = {
    "slicer.app.connect(startupCompleted())": (APPLICATION, "void startupCompleted();"),
    "slicer.app.layoutManager": (APPLICATION, "layoutManager() const;"),
    "slicer.app.moduleManager": (CORE, "moduleManager() const;"),
    "slicer.app.moduleDocumentationUrl": (CORE, "moduleDocumentationUrl(const QString& moduleName) const;"),
    "slicer.app.userSettings": (CORE, "userSettings() const;"),
    "slicer.app.settings": (CORE, "settings() const;"),
    "slicer.app.translate": ("Base/Python/slicer/i18n.py", "app.translate(context, text)"),
    "LayoutManager.sliceViewNames": (LAYOUT, "sliceViewNames() const;"),
    "LayoutManager.sliceWidget": (LAYOUT, "sliceWidget(const QString& name) const;"),
    "SliceWidget.sliceView": ("Libs/MRML/Widgets/qMRMLSliceWidget.h", "sliceView() const;"),
    "SliceView.cornerAnnotation": (
        "Modules/Scripted/DataProbe/DataProbeLib/SliceViewAnnotations.py", ".cornerAnnotation()",
    ),
    "SliceView.scheduleRender": ("Libs/MRML/Widgets/qMRMLSliceWidget.cxx", "scheduleRender()"),
    "NodeComboBox.currentNode": (COMBO, "currentNode() const;"),
    "NodeComboBox.setCurrentNode": (COMBO, "void setCurrentNode(vtkMRMLNode* node);"),
    "NodeComboBox.currentNodeChanged": (COMBO, "void currentNodeChanged(vtkMRMLNode* node);"),
    "NodeComboBox.currentNodeID": (COMBO, "Q_PROPERTY(QString currentNodeID "),
    "NodeComboBox.nodeTypes": (COMBO, "Q_PROPERTY(QStringList nodeTypes "),
    "NodeComboBox.noneEnabled": (COMBO, "Q_PROPERTY(bool noneEnabled "),
    "NodeComboBox.addEnabled": (COMBO, "Q_PROPERTY(bool addEnabled "),
    "NodeComboBox.removeEnabled": (COMBO, "Q_PROPERTY(bool removeEnabled "),
    "NodeComboBox.renameEnabled": (COMBO, "Q_PROPERTY(bool renameEnabled "),
    "NodeComboBox.setMRMLScene": ("Libs/MRML/Widgets/qMRMLWidget.h", "void setMRMLScene(vtkMRMLScene* newScene);"),
    "slicer.util.loadUI": (UTIL, "def loadUI("),
    "slicer.util.childWidgetVariables": (UTIL, "def childWidgetVariables("),
    "slicer.util.startupEnvironment": (UTIL, "def startupEnvironment("),
    "slicer.util.confirmYesNoDisplay": (UTIL, "def confirmYesNoDisplay("),
    "slicer.util.errorDisplay": (UTIL, "def errorDisplay("),
    "slicer.util.delayDisplay": (UTIL, "def delayDisplay("),
    "slicer.util.pip_install": (UTIL, "def pip_install("),
    "slicer.util.loadVolume": (UTIL, "def loadVolume("),
    "slicer.util.exit": (UTIL, "def exit("),
    "slicer.packaging.pip_ensure": ("Base/Python/slicer/packaging.py", "def pip_ensure("),
    "ScriptedLoadableModuleWidget.resourcePath": (BASES, "def resourcePath(self, filename):"),
    "ScriptedLoadableModuleWidget.setup": (BASES, "def setup(self):"),
    "ScriptedLoadableModuleWidget.onReload": (BASES, "def onReload(self):"),
    "ScriptedLoadableModuleLogic.getParameterNode": (BASES, "def getParameterNode(self):"),
    "ScriptedLoadableModuleTest.delayDisplay": (BASES, "def delayDisplay(self, message,"),
    "SampleDataLogic.registerCustomSampleDataSource": (
        "Modules/Scripted/SampleData/SampleData.py", "def registerCustomSampleDataSource(category=",
    ),
}  # fmt: skip
"""By name: a file of Slicer's sources and text that stands in it."""
