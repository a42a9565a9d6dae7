// Reads requests as JSON lines, and writes for each whether the sender's own library accepts it.
// A request: {"library", "secret", "headers", "body" (base64), "certificate" (of SNS)}.
import https from "node:https";
import { createInterface } from "node:readline";
import { EventEmitter } from "node:events";

import { LinearWebhookClient } from "@linear/sdk/webhooks";
import { Webhooks } from "@octokit/webhooks";
import "@shopify/shopify-api/adapters/node";
import { shopifyApi, ApiVersion } from "@shopify/shopify-api";
import { verifyKey } from "discord-interactions";
import SnsValidator from "sns-validator";
import { Webhook as StandardWebhook } from "standardwebhooks";
import Stripe from "stripe";
import { Webhook as SvixWebhook } from "svix";

// Amazon's certificate is fetched with https.get; the test brings its own.
let certificate = "";
https.get = (_url, answered) => {
  const response = new EventEmitter();
  response.statusCode = 200;
  queueMicrotask(() => {
    answered(response);
    response.emit("data", Buffer.from(certificate));
    response.emit("end");
  });
  return new EventEmitter();
};

const lower = (headers) => Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));

const libraries = {
  standardwebhooks: ({ secret, headers, body }) => {
    new StandardWebhook(secret).verify(body, lower(headers), { jsonParse: false });
    return true;
  },
  svix: ({ secret, headers, body }) => {
    new SvixWebhook(secret).verify(body, lower(headers));
    return true;
  },
  octokit: ({ secret, headers, body }) =>
    new Webhooks({ secret }).verify(body, lower(headers)["x-hub-signature-256"]),
  stripe: ({ secret, headers, body }) => {
    new Stripe("sk_test_none").webhooks.constructEvent(body, lower(headers)["stripe-signature"], secret);
    return true;
  },
  linear: ({ secret, headers, body }) => {
    const given = JSON.parse(body);
    return new LinearWebhookClient(secret).verify(Buffer.from(body), lower(headers)["linear-signature"], given.webhookTimestamp);
  },
  discord: ({ secret, headers, body }) =>
    verifyKey(body, lower(headers)["x-signature-ed25519"], lower(headers)["x-signature-timestamp"], secret),
  shopify: async ({ secret, headers, body }) => {
    const shopify = shopifyApi({
      apiKey: "key", apiSecretKey: secret, apiVersion: ApiVersion.October25 ?? Object.values(ApiVersion)[0],
      hostName: "hooks.example.org", isEmbeddedApp: false, logger: { level: 0, log: () => {} },
    });
    const needed = { "X-Shopify-Topic": "t", "X-Shopify-Domain": "d", "X-Shopify-Shop-Domain": "d.myshopify.com", "X-Shopify-API-Version": "2026-01" };
    const rawRequest = { method: "POST", url: "/a", headers: { ...needed, ...headers } };
    const found = await shopify.webhooks.validate({ rawBody: body, rawRequest, rawResponse: {} });
    if (!found.valid) throw new Error(JSON.stringify(found));
    return true;
  },
  sns: ({ body }) =>
    new Promise((resolve) => new SnsValidator().validate(JSON.parse(body), (error) => resolve(!error))),
};

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  certificate = request.certificate ?? "";
  let accepted = false;
  let reason = "";
  try {
    const body = Buffer.from(request.body, "base64").toString();
    accepted = Boolean(await libraries[request.library]({ ...request, body }));
  } catch (error) {
    reason = String(error?.message ?? error);
  }
  process.stdout.write(JSON.stringify({ accepted, reason }) + "\n");
}
