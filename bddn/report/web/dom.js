"use strict";
/* Elements of the page; text always goes in as text. */

const Dom = (() => {
  const SVG = "http://www.w3.org/2000/svg";

  function fill(made, attributes, children) {
    for (const [name, value] of Object.entries(attributes)) {
      if (value === true) made.setAttribute(name, "");
      else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
    }
    made.append(...children);
    return made;
  }

  const make = (name, attributes = {}, ...children) => fill(document.createElement(name), attributes, children);
  const svg = (name, attributes = {}, ...children) => fill(document.createElementNS(SVG, name), attributes, children);
  const get = (id) => document.getElementById(id);

  /** A number as it is read, with a true minus. */
  function words(value, digits = 3) {
    if (value === null || value === undefined || Number.isNaN(value)) return "unknown";
    return value.toFixed(digits).replace("-", "−");
  }

  /** A number with all digits that single precision has. */
  const exact = (value) => (Number.isNaN(value) ? "–" : String(Number(value.toPrecision(8))).replace("-", "−"));

  const count = (n) => n.toLocaleString("en");

  return {make, svg, get, words, exact, count};
})();
