/* The page of the command builder: a form of native controls, and what `Builder` writes for it. */
(() => {
  const form = document.getElementById("builder-form");
  const out = document.getElementById("builder-out");
  if (!form || !out) return;
  const questions = Builder.questions(FACTS);

  for (const [field, [question, answers]] of Object.entries(questions)) {
    const label = element("label", {textContent: question, htmlFor: `builder-${field}`});
    const select = element("select", {id: `builder-${field}`, name: field});
    for (const [value, textContent] of answers) select.append(element("option", {value, textContent}));
    form.append(label, select);
    if (field === "data") {
      form.append(
        element("label", {textContent: "Name of the data, with your path", htmlFor: "builder-name"}),
        element("input", {id: "builder-name", name: "name", type: "text", spellcheck: false, autocomplete: "off"}),
      );
    }
  }
  form.elements.network.value = "clip_vit_b16";
  form.addEventListener("input", (event) => show(event.target.name));
  form.addEventListener("submit", (event) => event.preventDefault());
  show("data");

  function show(changed) {
    if (changed === "data") form.elements.name.value = FACTS.data.find((one) => one.kind === form.elements.data.value).name;
    const choice = Object.fromEntries(new FormData(form));
    const {files, steps} = Builder.write(choice, FACTS);
    const script = steps.map(({words, commands}) => [`# ${words}`, ...commands].join("\n")).join("\n\n");
    const {terms} = FACTS.data.find((one) => one.kind === choice.data);
    const licence = FACTS.networks.find((one) => one.name === choice.network)?.licence;
    out.replaceChildren(
      element("p", {className: "hint", textContent: licence ? `${terms} Licence of the weights: ${licence}.` : terms}),
      ...files.flatMap(({name, text}) => part(name, text)),
      ...part("Commands", script),
    );
  }

  function part(title, text) {
    const heading = element("h2", {textContent: title});
    const copy = element("button", {type: "button", textContent: "Copy"});
    copy.setAttribute("aria-label", `Copy ${title}`);
    copy.addEventListener("click", async () => {
      await navigator.clipboard.writeText(text);
      copy.textContent = "Copied";
    });
    const shown = element("pre", {tabIndex: 0, textContent: text});
    shown.setAttribute("role", "region");
    shown.setAttribute("aria-label", title);
    return [heading, copy, shown];
  }

  function element(name, properties) {
    return Object.assign(document.createElement(name), properties);
  }
})();
