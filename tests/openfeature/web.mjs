// Asks a gateway as a page does: `node web.mjs URL QUESTIONS CONTEXTS`; writes the details as JSON,
// for each context in turn, and polls meanwhile. A question is [type, key, default].
import { OpenFeature } from "@openfeature/web-sdk";
import { OFREPWebProvider } from "@openfeature/ofrep-web-provider";

const [url, questions, contexts] = process.argv.slice(2);
const provider = new OFREPWebProvider({ baseUrl: url, pollInterval: 100 });
const all = [];
let ready = false;
for (const context of JSON.parse(contexts)) {
  await OpenFeature.setContext(context);
  if (!ready) {
    try {
      await OpenFeature.setProviderAndWait(provider);
    } catch (fault) {
      all.push({ failed: `${fault.message}` });
      break;
    }
    ready = true;
  }
  const client = OpenFeature.getClient();
  all.push(
    JSON.parse(questions).map(([type, key, fallback]) => client[`get${type}Details`](key, fallback)),
  );
  await new Promise((done) => setTimeout(done, 350));
}
console.log(JSON.stringify(all));
await OpenFeature.close();
process.exit(0);
