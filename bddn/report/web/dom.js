"use strict";
/* Elements of the page; text always goes in as text. */

const Dom = (() => {
  const SVG = "http://www.w3.org/2000/svg";

  /** @typedef {Record<string, unknown>} Attributes */

  /** @template {Element} E @param {E} made @param {Attributes} attributes @param {(Node | string)[]} children */
  function fill(made, attributes, children) {
    for (const [name, value] of Object.entries(attributes)) {
      if (value === true) made.setAttribute(name, "");
      else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, String(value));
    }
    made.append(...children);
    return made;
  }

  /** @template {keyof HTMLElementTagNameMap} K
      @param {K} name @param {Attributes} [attributes] @param {(Node | string)[]} children */
  const make = (name, attributes = {}, ...children) => fill(document.createElement(name), attributes, children);

  /** @template {keyof SVGElementTagNameMap} K
      @param {K} name @param {Attributes} [attributes] @param {(Node | string)[]} children */
  const svg = (name, attributes = {}, ...children) => fill(document.createElementNS(SVG, name), attributes, children);

  /** @template {keyof Ids} K @param {K} id @returns {Ids[K]} */
  const get = (id) => /** @type {any} */ (document.getElementById(id));

  /** All elements of the page, or of a part of it. @param {string} selector @param {ParentNode} within */
  const all = (selector, within = document) => [.../** @type {NodeListOf<HTMLElement>} */ (
    within.querySelectorAll(selector))];

  /** How to draw on a canvas. @param {HTMLCanvasElement} canvas @param {CanvasRenderingContext2DSettings} [settings] */
  const brush = (canvas, settings) => /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", settings));

  /** A number as it is read, with a true minus. @param {number | null | undefined} value @param {number} digits */
  function words(value, digits = 3) {
    if (value === null || value === undefined || Number.isNaN(value)) return "unknown";
    return value.toFixed(digits).replace("-", "−");
  }

  /** A number with all digits that single precision has. @param {number} value */
  const exact = (value) => (Number.isNaN(value) ? "–" : String(Number(value.toPrecision(8))).replace("-", "−"));

  /** @param {number} n */
  const count = (n) => n.toLocaleString("en");

  return {make, svg, get, all, brush, words, exact, count};
})();
