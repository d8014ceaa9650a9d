"use strict";

// The theme keeps the first colours that it took as if the reader had chosen them, and then follows the
// system no more. Only a choice is kept here.
const CHOSEN = "advrt.palette";
if (!localStorage.getItem(CHOSEN)) {
  for (const key of Object.keys(localStorage)) {
    if (key.endsWith(".__palette")) localStorage.removeItem(key);
  }
}
addEventListener("click", event => {
  if (event.target.closest("label[for^=__palette]")) localStorage.setItem(CHOSEN, "1");
});

// A page that is opened from a file may neither fetch the index of the search nor start a worker, in which
// the theme searches. The index is a script instead, and the work is done in a hidden frame.
if (location.protocol === "file:") {
  const index = new URL("search/search_index.js", document.currentScript.src);
  document.write(`<script src="${index}"><\/script>`);

  window.IFrameWorker = window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.waiting = [];
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      this.inside = frame.contentWindow;
      this.inside.postMessage = data => this.give(this, data);
      const script = frame.contentDocument.createElement("script");
      script.src = url;
      script.onload = () => {
        this.ready = true;
        this.waiting.forEach(data => this.give(this.inside, data));
      };
      frame.contentDocument.body.append(script);
    }

    give(target, data) {
      const event = new MessageEvent("message", { data });
      target.dispatchEvent(event);
      if (target === this && this.onmessage) this.onmessage(event);
    }

    postMessage(data) {
      if (this.ready) this.give(this.inside, data);
      else this.waiting.push(data);
    }

    terminate() {}
  };
}
