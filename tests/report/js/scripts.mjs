/* Runs scripts of the page outside a browser. They are no modules: each file makes one object, which all later see. */
import {readFileSync} from "node:fs";
import vm from "node:vm";

const WEB = new URL("../../../bddn/report/web/", import.meta.url);

/** The objects that some files make, by name; `given` are names that they find there already. */
export function scripts(files, given = {}) {
  const text = [files].flat().map((name) => readFileSync(new URL(name, WEB), "utf8")).join("\n");
  const names = [...text.matchAll(/^const (\w+) = /gm)].map(([, name]) => name);
  return vm.compileFunction(`${text}\nreturn {${names}};`, Object.keys(given))(...Object.values(given));
}
