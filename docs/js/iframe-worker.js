/* Browsers start no worker from a file. On a site that is opened from disk, a hidden frame does the work of the search. */
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      this.frame.title = "search";
      this.ready = new Promise((done) => this.frame.addEventListener("load", done, {once: true}));
      document.documentElement.append(this.frame);
      const inside = this.frame.contentWindow;
      inside.document.open();
      inside.answer = (data) => this.dispatchEvent(new MessageEvent("message", {data}));
      inside.document.write(`<script>postMessage = answer</script><script src="${new URL(url, location)}"></script>`);
      inside.document.close();
    }

    postMessage(data) {
      this.ready.then(() => this.frame.contentWindow.dispatchEvent(new MessageEvent("message", {data})));
    }

    terminate() {
      this.frame.remove();
    }
  };
}
