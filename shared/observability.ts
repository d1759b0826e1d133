import { createServer, type Server } from 'node:http';

import { collectDefaultMetrics, Registry } from 'prom-client';

import { AppError } from './errors.ts';

/** A registry that holds the Node.js process metrics already. */
export function createRegistry(): Registry {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  return registry;
}

export interface Observability {
  metricsPort: number;
  healthPort: number;
  close(): Promise<void>;
}

/**
 * Serves `/metrics` (Prometheus text format) on one port, `/healthz` and `/readyz` on another. `notReady` gives the reason why not,
 * or null; `notHealthy` likewise.
 *
 * @throws AppError `port.in-use` where a port is taken
 */
export async function serveObservability(options: {
  registry: Registry;
  metricsPort: number;
  healthPort: number;
  notReady: () => string | null;
  notHealthy?: () => string | null;
}): Promise<Observability> {
  const metrics = createServer((request, response) => {
    if (request.url !== '/metrics') {
      response.writeHead(404).end();
      return;
    }
    options.registry.metrics().then(
      (body) => response.writeHead(200, { 'content-type': options.registry.contentType }).end(body),
      () => response.writeHead(500).end(),
    );
  });
  const checks: Record<string, () => string | null> = {
    '/healthz': options.notHealthy ?? (() => null),
    '/readyz': options.notReady,
  };
  const health = createServer((request, response) => {
    const check = checks[request.url ?? ''];
    if (check === undefined) {
      response.writeHead(404).end();
      return;
    }
    const problem = check();
    response.writeHead(problem === null ? 200 : 503, { 'content-type': 'text/plain' }).end(`${problem ?? 'ok'}\n`);
  });
  const servers = [metrics, health];
  try {
    await listen(metrics, options.metricsPort, '--metrics-port');
    await listen(health, options.healthPort, '--health-port');
  } catch (error) {
    await Promise.all(servers.map(close));
    throw error;
  }
  return {
    metricsPort: portOf(metrics),
    healthPort: portOf(health),
    close: async () => {
      await Promise.all(servers.map(close));
    },
  };
}

function listen(server: Server, port: number, flag: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EADDRINUSE' && error.code !== 'EACCES') return reject(error);
      const what = error.code === 'EADDRINUSE' ? 'is taken' : 'needs more rights than this process has';
      reject(new AppError('port.in-use', `port ${port} ${what}: give another with ${flag}`, { cause: error }));
    });
    server.listen(port, resolve);
  });
}

function portOf(server: Server): number {
  const address = server.address();
  return typeof address === 'object' && address !== null ? address.port : 0;
}

function close(server: Server): Promise<void> {
  server.closeAllConnections();
  return new Promise((resolve) => {
    server.close(() => resolve());
  });
}
