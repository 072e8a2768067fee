/* The brain of the landing page: its page is large, so it is loaded when it is asked for. */
for (const place of document.querySelectorAll(".turn[data-page]")) {
  place.querySelector("button").addEventListener("click", () => {
    const frame = document.createElement("iframe");
    frame.src = place.dataset.page;
    frame.title = "The page of the demo, with a brain to turn";
    place.replaceChildren(frame);
    frame.focus();
  });
}

/* What the theme adds while a page opens: wide tables are scrolled by keyboard, buttons to copy are no landmarks. */
function mend() {
  for (const table of document.querySelectorAll(".md-typeset__scrollwrap:not([tabindex])")) table.tabIndex = 0;
  for (const buttons of document.querySelectorAll(".md-code__nav:not([role])")) buttons.setAttribute("role", "none");
}
new MutationObserver(mend).observe(document.body, {childList: true, subtree: true});
mend();
