import { Server } from 'node:https';

import { fastify, type FastifyInstance, type FastifyError } from 'fastify';

import { AppError, messageOf } from '#shared/errors.ts';
import type { Logger } from '#shared/log.ts';
import type { KeyedPem } from './certificate.ts';
import type { RequestOutcome, WebhookMetrics } from './metrics.ts';
import { WEBHOOK_PATH } from './registration.ts';
import { answerReview } from './review.ts';

/** The API server itself takes objects up to 3 MiB, and a review may hold two. */
const BODY_LIMIT_BYTES = 8 * 1024 * 1024;

/** Longer than the 90 s after which the API server drops an idle connection: were we first, its next request could meet a closed one. */
const KEEP_ALIVE_MS = 120_000;

/** A request comes within a local network: whoever takes longer for it keeps a connection from others. */
const HANDSHAKE_MS = 5000;
const HEADERS_MS = 5000;
const REQUEST_MS = 10_000;
const CHECK_EVERY_MS = 1000;

/** 20 to 40 kB each (measured), so that connections that nobody uses cannot fill the memory. */
const MAX_CONNECTIONS = 1000;

const TLS_OPTIONS = { minVersion: 'TLSv1.2' } as const;

export interface WebhookServer {
  /** For tests: `inject` needs no connection. */
  app: FastifyInstance<Server>;
  /** Gives the port that it listens on; 0 picks a free one. @throws AppError `port.in-use` */
  listen(port: number): Promise<number>;
  /** New connections get this certificate; those that stand go on. */
  serve(pair: KeyedPem): void;
  /** From now on each answer asks its client to open a new connection, elsewhere. */
  drain(): void;
  /** Takes no more connections and resolves when what is in flight has been answered. */
  close(): Promise<void>;
}

/** The HTTPS server. Until it is given a certificate by {@link WebhookServer.serve} it refuses each handshake. */
export function createWebhookServer(options: { metrics: WebhookMetrics; log: Logger }): WebhookServer {
  const { metrics, log } = options;
  let draining = false;
  const app = fastify<Server>({
    https: {
      ...TLS_OPTIONS,
      handshakeTimeout: HANDSHAKE_MS,
      headersTimeout: HEADERS_MS,
      connectionsCheckingInterval: CHECK_EVERY_MS,
    },
    bodyLimit: BODY_LIMIT_BYTES,
    requestTimeout: REQUEST_MS,
    keepAliveTimeout: KEEP_ALIVE_MS,
    return503OnClosing: false,
    forceCloseConnections: 'idle',
  });
  app.server.maxConnections = MAX_CONNECTIONS;

  // Not fastify's own parser: it refuses a key `__proto__`, which a user's object may hold (we copy nothing from it), and a parser that
  // fails costs the connection, so that each bad body would cost a new handshake.
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('application/json', { parseAs: 'string' }, (_request, body, done) => done(null, body));

  const outcomes = new WeakMap<object, RequestOutcome>();
  app.post(WEBHOOK_PATH, (request) => {
    const { outcome, answer } = answerReview(parseJson(String(request.body)));
    outcomes.set(request, outcome);
    return answer;
  });
  app.setErrorHandler<FastifyError | AppError>((error, _request, reply) => {
    const status = error instanceof AppError ? 400 : (error.statusCode ?? 500);
    const message = status < 500 ? messageOf(error) : 'internal error';
    if (status >= 500) log.error({ err: error }, 'a request failed');
    return reply.code(status).send({ error: message });
  });
  app.addHook('onSend', async (_request, reply) => {
    if (draining) reply.header('connection', 'close');
  });
  app.addHook('onResponse', async (request, reply) => {
    const failed = reply.statusCode >= 500 ? 'failed' : 'refused';
    metrics.answered(outcomes.get(request) ?? failed, reply.elapsedTime / 1000);
  });

  return {
    app,
    listen: async (port) => {
      await app.ready();
      await listen(app.server, port);
      const address = app.server.address();
      return typeof address === 'object' && address !== null ? address.port : port;
    },
    serve: ({ certificate, privateKey }) =>
      app.server.setSecureContext({ ...TLS_OPTIONS, cert: certificate, key: privateKey }),
    drain: () => {
      draining = true;
    },
    close: async () => {
      draining = true;
      // From here on Node.js checks no time limits any more; a client that stops half-way would hold us for ever.
      const timer = setTimeout(() => app.server.closeAllConnections(), REQUEST_MS);
      await app.close();
      clearTimeout(timer);
    },
  };
}

function listen(server: Server, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error) => {
      const message = `cannot listen on port ${port}, give another with --port: ${messageOf(error)}`;
      reject(new AppError('port.in-use', message, { cause: error }));
    });
    server.listen(port, resolve);
  });
}

function parseJson(body: string): unknown {
  try {
    return JSON.parse(body);
  } catch {
    throw new AppError('review.malformed', 'the body is not JSON');
  }
}
