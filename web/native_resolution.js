// Shows what TiM Native Resolution chose on the node itself: the text of its ui output.
import { app } from "../../scripts/app.js";
import { ComfyWidgets } from "../../scripts/widgets.js";

function addInfo(node, text) {
  const { widget } = ComfyWidgets.STRING(node, "chosen", ["STRING", { multiline: true }], app);
  widget.serialize = false; // not part of saved workflows
  widget.options.serialize = false; // nor of queued prompts
  widget.options.read_only = true;
  if (widget.element) widget.element.readOnly = true;
  widget.value = text;
  const needed = node.computeSize();
  node.setSize([Math.max(node.size[0], needed[0]), Math.max(node.size[1], needed[1])]);
}

function removeInfo(node) {
  const place = node.widgets.findIndex((widget) => widget.name === "chosen");
  if (place < 0) return;
  node.widgets[place].onRemove?.();
  node.widgets.splice(place, 1);
}

app.registerExtension({
  name: "TiM.NativeResolution",
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (nodeData.name !== "TiMNativeResolution") return;
    const onExecuted = nodeType.prototype.onExecuted;
    nodeType.prototype.onExecuted = function (output) {
      onExecuted?.apply(this, arguments);
      removeInfo(this); // Nodes 2.0 show a widget's value as it was when the widget was added
      addInfo(this, output.text?.join("\n") ?? "");
    };
  },
});
