// How many files are chosen, and all of those that are shown at once.

const form = document.querySelector("[data-choose]");
const all = form?.querySelector("[data-all]");
const button = form?.querySelector("button[type=submit]");

function list() {
  return [...form.querySelectorAll("input[name=uri]")];
}

function update() {
  const chosen = list().filter((box) => box.checked).length;
  button.disabled = chosen === 0;
  const noun = chosen === 1 ? "file" : "files";
  button.textContent = chosen === 0 ? "Choose files to request results" : `Request results of ${chosen} ${noun}…`;
  all.checked = chosen > 0 && chosen === list().length;
  all.indeterminate = chosen > 0 && chosen < list().length;
}

if (all) {
  all.addEventListener("change", () => {
    for (const box of list()) box.checked = all.checked;
    update();
  });
  form.addEventListener("change", update);
  document.addEventListener("htmx:after:swap", update);
  addEventListener("pageshow", update); // a browser that goes back keeps what was chosen
}
