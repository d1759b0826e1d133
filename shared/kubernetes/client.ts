import https from 'node:https';
import http from 'node:http';
import { text } from 'node:stream/consumers';

import type { KubeConfig } from '@kubernetes/client-node';

import { AppError, messageOf } from '../errors.ts';
import { KubeError } from './errors.ts';
import type { KubeList, KubeObject, Status } from './objects.ts';

const DEFAULT_TIMEOUT_MS = 30_000;

/** The client's own token file cache lives a minute; bound tokens are rotated long before they end. */
const CREDENTIALS_TTL_MS = 30_000;

const MAX_ATTEMPTS_WHEN_THROTTLED = 5;

const PATCH_TYPE = {
  merge: 'application/merge-patch+json',
  json: 'application/json-patch+json',
  apply: 'application/apply-patch+yaml',
} as const;

export type PatchType = keyof typeof PATCH_TYPE;

export type Query = Readonly<Record<string, string | number | boolean | undefined>>;

export interface DeletePreconditions {
  uid?: string;
  resourceVersion?: string;
}

export interface KubeClientOptions {
  config: KubeConfig;
  /** Called right before a request that writes is sent; throws where we may not write any more (leadership lost). */
  beforeWrite?: () => void;
  /** Called after each request. `status` is 0 where no answer came. */
  onRequest?: (request: { method: string; status: number; seconds: number }) => void;
  userAgent?: string;
  timeoutMs?: number;
}

interface Credentials {
  options: https.RequestOptions;
  headers: http.OutgoingHttpHeaders;
  agent: http.Agent;
  fetchedAtMs: number;
}

interface RequestOptions {
  query?: Query;
  body?: unknown;
  contentType?: string;
  timeoutMs?: number;
}

/**
 * JSON over HTTPS to the API server, on kept-alive connections: the generated client makes a new TLS connection for each request
 * (docs/decisions/0002-kubernetes-client.md).
 *
 * Every method rejects with a {@link KubeError} where the server refuses, and with an {@link AppError} of code
 * `kubernetes.unreachable` where no answer came (then a write may or may not have happened).
 */
export class KubeClient {
  readonly config: KubeConfig;
  readonly #options: KubeClientOptions;
  readonly #server: URL;
  #credentials: Promise<Credentials> | undefined;
  #agent: { key: string; agent: http.Agent } | undefined;

  constructor(options: KubeClientOptions) {
    const cluster = options.config.getCurrentCluster();
    if (cluster === null) throw new AppError('kubernetes.config', 'the kubeconfig has no current cluster');
    this.config = options.config;
    this.#options = options;
    this.#server = new URL(cluster.server);
  }

  get<T extends KubeObject>(path: string, query?: Query): Promise<T> {
    return this.request<T>('GET', path, { query });
  }

  list<T extends KubeObject>(path: string, query?: Query): Promise<KubeList<T>> {
    return this.request<KubeList<T>>('GET', path, { query });
  }

  create<T extends KubeObject>(path: string, body: NoInfer<T>, query?: Query): Promise<T> {
    return this.request<T>('POST', path, { body, query });
  }

  replace<T extends KubeObject>(path: string, body: NoInfer<T>): Promise<T> {
    return this.request<T>('PUT', path, { body });
  }

  patch<T extends KubeObject>(path: string, body: unknown, type: PatchType = 'merge', query?: Query): Promise<T> {
    return this.request<T>('PATCH', path, { body, query, contentType: PATCH_TYPE[type] });
  }

  /** With `dryRun` nothing is deleted; the answer is the same. */
  delete(path: string, preconditions?: DeletePreconditions, { dryRun = false } = {}): Promise<Status> {
    const body = {
      apiVersion: 'v1',
      kind: 'DeleteOptions',
      ...(preconditions && { preconditions }),
      ...(dryRun && { dryRun: ['All'] }),
    };
    return this.request<Status>('DELETE', path, { body });
  }

  /** Ends the kept-alive connections. */
  close(): void {
    this.#agent?.agent.destroy();
  }

  async request<T>(
    method: string,
    path: string,
    options: { [K in keyof RequestOptions]?: RequestOptions[K] | undefined } = {},
  ): Promise<T> {
    let unauthorized = false;
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#once<T>(method, path, options);
      } catch (error) {
        if (!(error instanceof KubeError)) throw error;
        if (error.status === 401 && !unauthorized) {
          unauthorized = true;
          this.#credentials = undefined;
        } else if (error.status === 429 && attempt < MAX_ATTEMPTS_WHEN_THROTTLED) {
          await new Promise((resolve) => setTimeout(resolve, (error.retryAfterSeconds ?? 1) * 1000));
        } else {
          throw error;
        }
      }
    }
  }

  async #once<T>(
    method: string,
    path: string,
    options: { [K in keyof RequestOptions]?: RequestOptions[K] | undefined },
  ): Promise<T> {
    const { options: credentials, headers: authorization, agent } = await this.#currentCredentials();
    const url = new URL(this.#server.pathname.replace(/\/$/, '') + path, this.#server);
    for (const [key, value] of Object.entries(options.query ?? {})) {
      if (value !== undefined) url.searchParams.set(key, String(value));
    }
    const payload = options.body === undefined ? undefined : Buffer.from(JSON.stringify(options.body));
    const headers: http.OutgoingHttpHeaders = {
      accept: 'application/json',
      'user-agent': this.#options.userAgent ?? 'multi-platform-controller',
      ...authorization,
    };
    if (payload !== undefined) {
      headers['content-type'] = options.contentType ?? 'application/json';
      headers['content-length'] = payload.length;
    }
    const startMs = performance.now();
    let status = 0;
    try {
      const response = await send(
        url,
        { ...credentials, agent, method, headers },
        payload,
        options.timeoutMs ?? this.#options.timeoutMs ?? DEFAULT_TIMEOUT_MS,
        method === 'GET' ? undefined : this.#options.beforeWrite,
      );
      status = response.status;
      const body = parse(response.body);
      // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the API server's schema is the contract; T is what the path serves
      if (status >= 200 && status < 300) return body as T;
      throw new KubeError(`${method} ${path}`, status, asStatus(body, response));
    } catch (error) {
      if (error instanceof AppError) throw error;
      throw new AppError(
        'kubernetes.unreachable',
        `${method} ${path}: no answer from the API server at ${url.host}: ${messageOf(error)}`,
        {
          cause: error,
        },
      );
    } finally {
      this.#options.onRequest?.({ method, status, seconds: (performance.now() - startMs) / 1000 });
    }
  }

  async #currentCredentials(): Promise<Credentials> {
    const current = await this.#credentials;
    if (current !== undefined && performance.now() - current.fetchedAtMs < CREDENTIALS_TTL_MS) return current;
    const pending = this.#readCredentials();
    this.#credentials = pending;
    try {
      return await pending;
    } catch (error) {
      this.#credentials = undefined;
      throw new AppError(
        'kubernetes.credentials',
        `cannot read the credentials for the API server: ${messageOf(error)}`,
        { cause: error },
      );
    }
  }

  async #readCredentials(): Promise<Credentials> {
    const headers: http.OutgoingHttpHeaders = {};
    const options: https.RequestOptions = { headers };
    await this.config.applyToHTTPSOptions(options);
    const { ca, cert, key, servername, rejectUnauthorized } = options;
    const agentKey = [ca, cert, key, servername, rejectUnauthorized].map(String).join('\0');
    if (this.#agent?.key !== agentKey) {
      const proxied = this.config.getCurrentCluster()?.proxyUrl !== undefined;
      const Agent = this.#server.protocol === 'http:' ? http.Agent : https.Agent;
      const agent =
        proxied && options.agent instanceof http.Agent
          ? options.agent
          : new Agent({ keepAlive: true, maxSockets: 64, scheduling: 'lifo' });
      this.#agent?.agent.destroy();
      this.#agent = { key: agentKey, agent };
    }
    return { options, headers, agent: this.#agent.agent, fetchedAtMs: performance.now() };
  }
}

interface RawResponse {
  status: number;
  retryAfter: string | undefined;
  body: string;
}

function send(
  url: URL,
  options: https.RequestOptions,
  payload: Buffer | undefined,
  timeoutMs: number,
  beforeSend: (() => void) | undefined,
): Promise<RawResponse> {
  return new Promise((resolve, reject) => {
    const transport = url.protocol === 'http:' ? http : https;
    const request = transport.request(url, { ...options, signal: AbortSignal.timeout(timeoutMs) }, (response) => {
      text(response).then(
        (body) => resolve({ status: response.statusCode ?? 0, retryAfter: response.headers['retry-after'], body }),
        reject,
      );
    });
    request.on('error', reject);
    const sendNow = (): void => {
      try {
        beforeSend?.();
        request.end(payload);
      } catch (error) {
        request.destroy(error instanceof Error ? error : undefined);
      }
    };
    // Only then does it leave: it may have waited for a free connection, and a process that was frozen meanwhile must not send it.
    request.once('socket', (socket) => {
      if (socket.connecting) socket.once(transport === http ? 'connect' : 'secureConnect', sendNow);
      else sendNow();
    });
  });
}

function parse(body: string): unknown {
  try {
    return JSON.parse(body);
  } catch {
    return body;
  }
}

function asStatus(body: unknown, response: RawResponse): Status {
  const status: Status =
    typeof body === 'object' && body !== null
      ? body
      : { message: `HTTP ${response.status}: ${String(body).slice(0, 200)}` };
  const retryAfterSeconds = Number(response.retryAfter);
  if (Number.isFinite(retryAfterSeconds) && status.details?.retryAfterSeconds === undefined) {
    return { ...status, details: { ...status.details, retryAfterSeconds } };
  }
  return status;
}
