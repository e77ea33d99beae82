// Prints the facets that the Bluesky app's own library finds in the texts of standard input (a JSON list), as JSON.

import { RichText } from "@atproto/api";

let input = "";
for await (const chunk of process.stdin) input += chunk;

const found = JSON.parse(input).map((text) => {
  const richText = new RichText({ text });
  richText.detectFacetsWithoutResolution();
  return (richText.facets ?? []).map(({ index, features: [feature] }) => [
    index.byteStart,
    index.byteEnd,
    feature.$type.split("#")[1],
    feature.uri ?? feature.tag ?? feature.did,
  ]);
});
console.log(JSON.stringify(found));
