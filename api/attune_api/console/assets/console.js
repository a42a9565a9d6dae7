// The console's own script: the little that htmx has no attribute for. It works under a policy that forbids anything inline.
"use strict";
(() => {
  // A one-time code in the fragment, which no server and no log ever sees, signs in (attune ui).
  const signIn = () => {
    const form = document.getElementById("sign-in");
    const code = /^#code=([A-Za-z0-9_-]{20,100})$/.exec(location.hash);
    if (!form || !code) return false;
    history.replaceState(null, "", location.pathname + location.search);
    form.code.disabled = false;
    form.code.value = code[1];
    form.token.required = false;
    form.token.disabled = true;
    form.submit();
    return true;
  };
  if (signIn()) return;
  // The link was opened in a window that shows the page for signing in already: then nothing is loaded again.
  window.addEventListener("hashchange", signIn);

  // What nobody sees need not be asked for; it is asked for at once when the page is seen again.
  document.addEventListener("htmx:beforeRequest", (event) => {
    const polls = (event.detail.elt.getAttribute("hx-trigger") || "").startsWith("every");
    if (polls && document.hidden) event.preventDefault();
  });

  const offline = document.getElementById("offline");
  document.addEventListener("htmx:sendError", () => { offline.hidden = false; });
  document.addEventListener("htmx:timeout", () => { offline.hidden = false; });
  document.addEventListener("htmx:afterRequest", (event) => {
    if (event.detail.xhr && event.detail.xhr.status) offline.hidden = true;
  });

  // A part that is loaded again keeps what was opened in it.
  let open = [];
  document.addEventListener("htmx:beforeSwap", (event) => {
    open = [...event.detail.target.querySelectorAll("details[id][open]")].map((each) => each.id);
  });
  document.addEventListener("htmx:afterSettle", () => {
    for (const id of open) {
      const found = document.getElementById(id);
      if (found) found.open = true;
    }
    open = [];
    // A list that grows at its beginning loses its end, so that a page left open for days stays small.
    for (const list of document.querySelectorAll("[data-most]")) {
      while (list.children.length > Number(list.dataset.most)) list.lastElementChild.remove();
    }
  });

  document.addEventListener("click", (event) => {
    const choice = event.target.closest(".choice button");
    if (choice) {
      for (const each of choice.parentElement.children) each.classList.toggle("chosen", each === choice);
    }
  });
})();
