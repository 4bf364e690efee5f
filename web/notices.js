// Takes an empty line of text off a node: what an earlier run said there no longer holds.
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";

const NAME = "$$node-text-preview"; // the host's widget for text of a running node

function removeText(node) {
  const place = node?.widgets?.findIndex((widget) => widget.name === NAME) ?? -1;
  if (place < 0) return;
  node.widgets[place].onRemove?.();
  node.widgets.splice(place, 1);
  node.setDirtyCanvas(true);
}

app.registerExtension({
  name: "TiM.Notices",
  setup() {
    api.addEventListener("progress_text", ({ detail: { nodeId, text } }) => {
      // the host's own listener, which may come later, makes the widget
      if (!text) requestAnimationFrame(() => removeText(app.graph.getNodeById(nodeId)));
    });
  },
});
