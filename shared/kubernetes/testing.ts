import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';

import { KubeConfig } from '@kubernetes/client-node';

import type { KubeObject } from './objects.ts';

export interface Received {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
}

/** A watch that is open on the server. */
export interface OpenWatch {
  readonly query: URLSearchParams;
  send(type: string, object: object): void;
  /** The server ends it in good order. */
  end(): void;
  /** The connection breaks. */
  break(): void;
  readonly isClosed: boolean;
}

export interface Answer {
  readonly status?: number;
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

/** A server that speaks HTTP on loopback: lists and other requests are answered by `onRequest`, watches stay open. */
export class StandInApiServer {
  readonly requests: Received[] = [];
  readonly watches: OpenWatch[] = [];
  onRequest: (request: Received) => Answer | Promise<Answer> = () => ({ body: {} });
  /** Refuses watches with this status; null: lets them in. */
  watchStatus: number | null = null;
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
  }

  static async start(): Promise<StandInApiServer> {
    const server = createServer();
    const standIn = new StandInApiServer(server);
    server.on('request', (request, response) => void standIn.#answer(request, response));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return standIn;
  }

  get config(): KubeConfig {
    const config = new KubeConfig();
    // Listening on TCP, it has an address with a port.
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion
    const { port } = this.#server.address() as AddressInfo;
    config.loadFromOptions({
      // The client speaks plain HTTP only where nothing is verified anyway.
      clusters: [{ name: 'c', server: `http://127.0.0.1:${port}`, skipTLSVerify: true }],
      users: [{ name: 'u', token: 'not-secret' }],
      contexts: [{ name: 'x', cluster: 'c', user: 'u' }],
      currentContext: 'x',
    });
    return config;
  }

  get connections(): Promise<number> {
    return new Promise((resolve, reject) =>
      this.#server.getConnections((error, count) => (error ? reject(error) : resolve(count))),
    );
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, 'close');
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '', 'http://127.0.0.1');
    const received: Received = {
      method: request.method ?? '',
      path: url.pathname,
      query: url.searchParams,
      headers: request.headers,
      body: await text(request),
    };
    this.requests.push(received);
    if (url.searchParams.get('watch') === 'true') {
      this.#openWatch(url.searchParams, response);
      return;
    }
    const { status = 200, body = {}, headers = {} } = await this.onRequest(received);
    response.writeHead(status, { 'content-type': 'application/json', ...headers });
    response.end(typeof body === 'string' ? body : JSON.stringify(body));
  }

  #openWatch(query: URLSearchParams, response: ServerResponse): void {
    response.writeHead(this.watchStatus ?? 200, { 'content-type': 'application/json' });
    if (this.watchStatus !== null) {
      response.end('{}');
      return;
    }
    response.flushHeaders();
    let isClosed = false;
    response.on('close', () => (isClosed = true));
    this.watches.push({
      query,
      send: (type, object) => void response.write(`${JSON.stringify({ type, object })}\n`),
      end: () => void response.end(),
      break: () => void response.socket?.destroy(),
      get isClosed() {
        return isClosed;
      },
    });
  }
}

export function objectOf(name: string, resourceVersion: string, uid = `uid-${name}`): KubeObject {
  return { apiVersion: 'v1', kind: 'Thing', metadata: { name, namespace: 'ns', uid, resourceVersion } };
}

export function listOf(resourceVersion: string, items: readonly KubeObject[], token?: string): Answer {
  return { body: { metadata: { resourceVersion, ...(token !== undefined && { continue: token }) }, items } };
}
