import { readFile } from 'node:fs/promises';
import { stringify } from 'yaml';
import { PLATFORM_PARAM, SECRET_PREFIX } from '#shared/names.ts';

const LOOK_AROUND = new URL('look-around.sh', import.meta.url);

/** A TaskRun to try by hand: it logs in to its host and says what it sees there. YAML. */
export async function sampleTaskRun(options: { name: string; platform: string }): Promise<string> {
  return stringify({
    apiVersion: 'tekton.dev/v1',
    kind: 'TaskRun',
    metadata: { name: options.name, namespace: 'default' },
    spec: {
      params: [{ name: PLATFORM_PARAM, value: options.platform }],
      taskSpec: {
        params: [{ name: PLATFORM_PARAM }],
        steps: [
          {
            name: 'look-around',
            image: 'any: images are not pulled here',
            script: await readFile(LOOK_AROUND, 'utf8'),
            volumeMounts: [{ name: 'ssh', mountPath: '/ssh', readOnly: true }],
          },
        ],
        volumes: [{ name: 'ssh', secret: { secretName: `${SECRET_PREFIX}$(context.taskRun.name)`, optional: false } }],
      },
    },
  });
}
