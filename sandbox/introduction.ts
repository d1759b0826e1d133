import path from 'node:path';
import type { Sandbox } from './sandbox.ts';

/** What `npm run sandbox` prints when all is up: where things are, and commands that work as they are printed. */
export function introduction(
  sandbox: Sandbox,
  sample: { name: string; file: string },
  runs: { webhook: boolean; controller: boolean },
): string {
  const { controlPlane, hosts, namespace, folder, controller, webhook } = sandbox;
  const { kubeconfigPath } = controlPlane;
  const rows = hosts.map((host) => [host.name, host.platform, `${host.admin}@${host.address}:${host.port}`]);
  const logs = path.join(folder, 'task-runner', 'logs', 'default', sample.name, '*', '*.log');
  return [
    '',
    `Hosts (${sandbox.hostKind}):`,
    ...table(rows),
    '',
    runs.controller
      ? `Controller's log:  ${controller.logPath}`
      : `The controller does not run. Start it with:\n  node_modules/.bin/node controller/main.ts --kubeconfig ${kubeconfigPath}`,
    runs.webhook ? `Webhook's log:     ${webhook.logPath}` : 'The webhook does not run.',
    '',
    'To try a TaskRun by hand, in another terminal:',
    `  export KUBECONFIG=${kubeconfigPath}`,
    `  kubectl create -f ${sample.file}`,
    '  kubectl get taskruns,pods,secrets --show-labels',
    `  cat ${logs}`,
    `  kubectl delete -f ${sample.file}`,
    `  kubectl get configmap host-config -n ${namespace} -o yaml`,
    '',
    'Ctrl-C stops everything.',
  ].join('\n');
}

function table(rows: readonly string[][]): string[] {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows.map((row) => `  ${row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  ')}`.trimEnd());
}
