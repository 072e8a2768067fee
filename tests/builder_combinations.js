/* Prints what `Builder` writes for all combinations of choices; `facts` and `Builder` are defined before. */
const fields = Object.entries(Builder.questions(facts)).map(([field, [, answers]]) => [field, answers.map(([value]) => value)]);

let choices = [{}];
for (const [field, values] of fields) {
  choices = choices.flatMap((choice) => values.map((value) => ({...choice, [field]: value})));
}

/* Networks differ in their names alone, so a name is replaced here; every name is tried in `alone`. */
const commands = new Set();
const files = new Set();
for (const choice of choices) {
  const written = Builder.write(choice, facts);
  const name = new RegExp(`\\b${choice.network}\\b`, "g");
  for (const step of written.steps) for (const line of step.commands) commands.add(line.replace(name, "demo"));
  for (const file of written.files) files.add(JSON.stringify(file));
}

const first = Object.fromEntries(fields.map(([field, [value]]) => [field, value]));
const alone = facts.networks.flatMap(({name}) =>
  Builder.write({...first, network: name}, facts).steps.flatMap((step) => step.commands),
);
const found = {n: choices.length, commands: [...commands], alone, files: [...files].map((text) => JSON.parse(text))};
console.log(JSON.stringify(found));
