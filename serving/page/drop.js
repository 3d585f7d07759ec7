// Choosing a picture: by its input, by a drop, or from the clipboard.

/**
 * Calls `choose` with each picture that the user chooses, drops on `root` or pastes while it is shown.
 * zone: the element that is marked while a picture is over it. input: the file input.
 */
export function takePictures(root, zone, input, choose) {
  const take = (file) => {
    const listed = new DataTransfer(); // the name beside the button is that of a dropped file too
    listed.items.add(file);
    input.files = listed.files;
    choose(file);
  };
  input.addEventListener("change", () => input.files[0] && take(input.files[0]));
  for (const type of ["dragenter", "dragover"])
    root.addEventListener(type, (event) => {
      event.preventDefault();
      zone.classList.add("over");
    });
  root.addEventListener("dragleave", (event) => root.contains(event.relatedTarget) || zone.classList.remove("over"));
  root.addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    const dropped = event.dataTransfer?.files[0];
    if (dropped) take(dropped);
  });
  document.addEventListener("paste", (event) => {
    const pasted = event.clipboardData?.files[0];
    if (root.hidden || !pasted) return;
    event.preventDefault();
    take(pasted);
  });
  return take;
}
