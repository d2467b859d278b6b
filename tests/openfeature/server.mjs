// Asks a gateway as a Node server does: `node server.mjs URL QUESTIONS`; writes the details as JSON.
// A question is [type, key, default, context].
import { OpenFeature } from "@openfeature/server-sdk";
import { OFREPProvider } from "@openfeature/ofrep-provider";

const [url, questions] = process.argv.slice(2);
await OpenFeature.setProviderAndWait(new OFREPProvider({ baseUrl: url, timeoutMs: 5000 }));
const client = OpenFeature.getClient();
const found = [];
for (const [type, key, fallback, context] of JSON.parse(questions)) {
  found.push(await client[`get${type}Details`](key, fallback, context));
}
console.log(JSON.stringify(found));
await OpenFeature.close();
