import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';

import type { KubeClient } from '#shared/kubernetes/client.ts';

/**
 * Stands in for kube-proxy: nothing here routes a ClusterIP. The Service is made to name an address of this machine's loopback, its port
 * stays as the chart has it, and what connects there is passed on to one of `ports`, in turn.
 */
export async function routeService(options: {
  client: KubeClient;
  namespace: string;
  service: string;
  ports: () => readonly number[];
}): Promise<{ stop(): Promise<void> }> {
  const { client, namespace, service, ports } = options;
  const path = `/api/v1/namespaces/${namespace}/services/${service}`;
  // One of sixteen million, so that others who test on this machine do not meet it.
  const address = `127.${[0, 0, 0].map(() => 1 + Math.floor(Math.random() * 250)).join('.')}`;
  const spec = { type: 'ExternalName', externalName: address, clusterIP: null, clusterIPs: null };
  const changed = await client.patch<{ metadata: { name: string }; spec: { ports: { port: number }[] } }>(path, {
    spec,
  });
  const port = changed.spec.ports[0]?.port ?? 0;
  const sockets = new Set<Socket>();
  let turn = 0;
  const server = createServer((from) => {
    const all = ports();
    const to = connect(all[turn++ % all.length] ?? 0, '127.0.0.1');
    for (const [a, b] of [
      [from, to],
      [to, from],
    ] as const) {
      sockets.add(a);
      a.pipe(b);
      a.on('error', () => b.destroy());
      a.on('close', () => {
        sockets.delete(a);
        b.destroy();
      });
    }
  }).listen(port, address);
  await once(server, 'listening');
  return {
    stop: async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}
