// A photo that is dropped or pasted goes the way of the upload button, with its checks.
function takeFile(files) {
  const input = document.querySelector("input[type=file]:has(+ #photo-upload)");
  if (!files || !files.length || !input) return false;
  const one = new DataTransfer();
  one.items.add(files[0]);
  input.files = one.files;
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
