// Where the answers come from: the page's own data, or the server that served the page. Both have the same four methods.

/** The page's data, or null where the page carries none. */
function pageData() {
  const element = document.getElementById("rayalign-data");
  return element ? JSON.parse(element.textContent) : null;
}

function openSource(data) {
  return data.mode === "serve" ? serverSource(data.api) : fileSource(data);
}

/** A selection of views embedded in the page. */
function fileSource({ facets, rows }) {
  return {
    facets: async () => facets,
    list: async (query) => selectPage(rows[query.purpose] ?? [], query),
    view: async (id, purpose) => (rows[purpose] ?? []).find((one) => one.id === id) ?? null,
    onChange: () => {},
  };
}

/** The server's pages; a slower reply to an older question is dropped by the caller. */
function serverSource(api) {
  return {
    facets: () => asked(`${api}/facets`),
    list: (query) => asked(`${api}/prompts?${toParameters(query)}`),
    view: (id, purpose) => asked(`${api}/prompts/${encodeURIComponent(id)}?${toParameters({ purpose })}`, true),
    onChange: (heard) => {
      const events = new EventSource(`${api}/events`);
      let first = true; // it says where the run stands, which the page shows already
      events.addEventListener("changed", ({ data }) => {
        if (!first) heard(JSON.parse(data));
        first = false;
      });
    },
  };
}

async function asked(url, mayLack = false) {
  let reply;
  try {
    reply = await fetch(url, { headers: { accept: "application/json" } });
  } catch {
    throw new Error("The server does not answer: it may have been stopped. Start `rayalign serve` again.");
  }
  if (reply.status === 404 && mayLack) return null;
  if (!reply.ok) throw new Error(`The server answered ${reply.status}${await reasonOf(reply)}`);
  return reply.json();
}

/** What the server says of a refusal. */
async function reasonOf(reply) {
  const text = await reply.text();
  try {
    const { detail } = JSON.parse(text);
    return detail ? `: ${typeof detail === "string" ? detail : JSON.stringify(detail)}` : "";
  } catch {
    return text ? `: ${firstOf(text, 200)}` : "";
  }
}
