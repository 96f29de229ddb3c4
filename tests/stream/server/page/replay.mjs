// Feeds streams of binary messages to the page's own reader, and writes what it made of them.
// usage: node replay.mjs PAGE STREAMS, where STREAMS is JSON: lists of messages in base64

import { readFile } from "node:fs/promises";
import { pathToFileURL } from "node:url";

const [page, streams] = process.argv.slice(2);
const module = (name) => import(pathToFileURL(`${page}/${name}.js`).href);
const { Parts, ProtocolError, SNAPSHOT, unpack } = await module("wire");
const { readDocument } = await module("document");
const { Replica, digests } = await module("replica");

async function replay(messages) {
  const replica = new Replica();
  const parts = new Parts();
  for (const text of messages) {
    const bytes = Uint8Array.from(Buffer.from(text, "base64"));
    try {
      const message = await unpack(bytes.buffer);
      const document = message && parts.add(message);
      if (!document) continue;
      const delta = readDocument(document, message);
      if (message.kind === SNAPSHOT) replica.restore(delta);
      else replica.apply(delta);
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      return { refused: error.code, why: error.message };
    }
  }
  return { count: replica.count, digests: await digests(replica) };
}

const found = [];
for (const messages of JSON.parse(await readFile(streams))) found.push(await replay(messages));
console.log(JSON.stringify(found));
