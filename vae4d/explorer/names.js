// What the widgets' own HTML leaves out: names of sliders and of the buttons of players, and what an image shows.

const ACTIONS = { "fa-play": "play", "fa-pause": "pause", "fa-stop": "stop", "fa-retweet": "repeat", "fa-repeat": "repeat" };

// Only what changed is written: an observer watches.
function put(node, name, value) {
  if (node && value && node.getAttribute(name) !== value) node.setAttribute(name, value);
}

function nameAll(panel, images) {
  for (const slider of panel.querySelectorAll(".widget-slider")) {
    const handle = slider.querySelector("[role=slider]");
    put(handle, "aria-label", slider.querySelector(".widget-label")?.innerText);
    put(handle, "aria-valuetext", slider.querySelector(".widget-readout")?.innerText);
  }
  for (const player of panel.querySelectorAll(".widget-play")) {
    for (const button of player.querySelectorAll("button")) {
      const icon = Object.keys(ACTIONS).find((name) => button.querySelector("." + name));
      put(button, "aria-label", icon && `${ACTIONS[icon]}: ${player.title}`);
    }
  }
  for (const [name, text] of Object.entries(images)) {
    panel.querySelectorAll("img." + name).forEach((image) => put(image, "alt", text));
  }
}

function render({ model, el }) {
  let panel = null;
  const update = () => {
    if (panel ??= el.closest("." + model.get("scope"))) nameAll(panel, model.get("images"));
  };
  // The panel is put into the page after this is rendered, and its parts one by one.
  const observer = new MutationObserver(update);
  const begin = () => {
    update();
    if (panel) observer.observe(panel, { childList: true, subtree: true, characterData: true, attributeFilter: ["class", "title"] });
    else if (waited++ < 100) setTimeout(begin, 100);
  };
  let waited = 0;
  begin();
  model.on("change:images", update);
  return () => {
    observer.disconnect();
    model.off("change:images", update);
  };
}

export default { render };
