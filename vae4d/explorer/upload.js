// A button that hands a file to Python in one message. One that is too large is named, but not read: its message would end the connection.

function render({ model, el }) {
  const button = document.createElement("button");
  button.className = "jupyter-widgets jupyter-button widget-upload";
  button.style.width = "auto"; // or the words are cut
  button.textContent = model.get("description");
  button.title = model.get("tooltip");
  const input = document.createElement("input");
  input.type = "file";
  input.accept = model.get("accept");
  input.hidden = true;
  button.onclick = () => {
    input.value = ""; // so that the same file can be tried again
    input.click();
  };
  input.onchange = async () => {
    const file = input.files[0];
    if (!file) return;
    const small = file.size <= model.get("largest");
    model.send({ name: file.name, size: file.size }, undefined, small ? [await file.arrayBuffer()] : []);
  };
  el.append(button, input);
}

export default { render };
