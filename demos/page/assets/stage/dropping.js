// A photo or a scene that is dropped or pasted goes the way of its upload button, with its checks.
function takeFile(files) {
  if (!files || !files.length) return false;
  const isScene = files.length > 1 || /\.(ora|psd|zip|json)$/i.test(files[0].name);
  const input = document.querySelector(`input[type=file]:has(+ #${isScene ? "scene" : "photo"}-upload)`);
  if (!input) return false;
  const taken = new DataTransfer();
  for (const file of files) taken.items.add(file);
  input.files = taken.files;
  input.dispatchEvent(new Event("change", { bubbles: true }));
  return true;
}

view.addEventListener("dragover", (event) => {
  event.preventDefault();
  view.classList.add("dropping");
});
view.addEventListener("dragleave", () => view.classList.remove("dropping"));
view.addEventListener("drop", (event) => {
  event.preventDefault();
  view.classList.remove("dropping");
  takeFile(event.dataTransfer.files);
});
root.addEventListener("paste", (event) => takeFile(event.clipboardData && event.clipboardData.files));
