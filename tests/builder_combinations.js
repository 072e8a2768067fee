/* Prints what `Builder` writes for all combinations of choices; `facts` and `Builder` are defined before.

   Networks of one kind differ in their names alone, and so do data. Both names are words of the shell, so a command is as
   good with any of them: they become NETWORK and DATA, and each command is printed once. */
const kinds = new Map(facts.networks.map((one) => [JSON.stringify([one.downloads, one.extra, one.name === "demo"]), one.name]));
const fields = Object.entries(Builder.questions(facts)).map(([field, [, answers]]) => [
  field,
  field === "network" ? ["own", ...kinds.values()] : answers.map(([value]) => value),
]);

let choices = [{}];
for (const [field, values] of fields) {
  choices = choices.flatMap((choice) => values.map((value) => ({...choice, [field]: value})));
}

const commands = new Set();
const files = new Set();
for (const choice of choices) {
  const written = Builder.write(choice, facts);
  for (const step of written.steps) for (const line of step.commands) commands.add(plain(line, choice));
  for (const file of written.files) files.add(JSON.stringify(file));
}

const first = Object.fromEntries(fields.map(([field, [value]]) => [field, value]));
for (const {name} of facts.networks) {
  const choice = {...first, network: name};
  for (const step of Builder.write(choice, facts).steps) {
    for (const line of step.commands) {
      if (!commands.has(plain(line, choice))) throw new Error(`${name} has a command of its own: ${line}`);
    }
  }
}
console.log(JSON.stringify({n: choices.length, commands: [...commands], files: [...files].map((text) => JSON.parse(text))}));

function plain(line, choice) {
  const {name} = facts.data.find((one) => one.kind === choice.data);
  return line.replaceAll(name, "DATA").replace(new RegExp(`(?<=[ /])${choice.network}(?=[ ._]|$)`, "g"), "NETWORK");
}
