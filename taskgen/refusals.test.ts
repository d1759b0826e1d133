import { describe, expect, test } from 'vitest';
import { refusalOf, taskWith, twinOf } from './testing.ts';

describe('what cannot be carried over is refused by name', () => {
  test.each<[string, { step?: object; spec?: object }]>([
    ['ref: what a StepAction does is not in this Task', { step: { script: undefined, ref: { name: 'x' } } }],
    ['it has neither script nor command, and what its image would run is not known', { step: { script: undefined } }],
    ['it has neither script nor command, and what its image would run is not known', { step: { script: '' } }],
    ['its script is empty: leave it out', { step: { script: '', command: ['make'] } }],
    ['it has both script and command', { step: { command: ['make'] } }],
    ['it has no image', { step: { image: undefined } }],
    ['its script is for Windows', { step: { script: '#!win powershell\ndir' } }],
    [
      'envFrom: its variables are not known beforehand; list them under env',
      { step: { envFrom: [{ secretRef: {} }] } },
    ],
    [
      'stepTemplate.envFrom: its variables are not known beforehand; list them under env',
      { spec: { stepTemplate: { envFrom: [] } } },
    ],
    ['volumeDevices: devices are not on the host', { step: { volumeDevices: [{ name: 'x', devicePath: '/dev/x' }] } }],
    [
      'workspaces: isolated workspaces cannot be carried over',
      { step: { workspaces: [{ name: 'w' }] }, spec: { workspaces: [{ name: 'w' }] } },
    ],
    [
      'results: results of a step cannot be carried over; results of the Task can',
      { step: { results: [{ name: 'r' }] } },
    ],
    ['somethingNew: cannot be carried over', { step: { somethingNew: true } }],
    ['sidecar docker: a step on another machine does not reach it', { spec: { sidecars: [{ name: 'docker' }] } }],
    ['env a.b: no shell can set a variable of this name', { step: { env: [{ name: 'a.b', value: 'x' }] } }],
    ['env IFS: the shell sets this variable itself', { step: { env: [{ name: 'IFS', value: 'x' }] } }],
    [
      'env BUILDER_IMAGE: the remote step needs this name for its image',
      { spec: { stepTemplate: { env: [{ name: 'BUILDER_IMAGE' }] } } },
    ],
    [
      'computeResources: devices.kubevirt.io/kvm is not on the host',
      { step: { computeResources: { limits: { cpu: 1, 'devices.kubevirt.io/kvm': '1' } } } },
    ],
    ['$(step.results.x.path) is not on the host', { step: { script: 'echo a >$(step.results.x.path)' } }],
    ['$(steps.step-a.exitCode.path) is not on the host', { step: { args: ['$(steps.step-a.exitCode.path)'] } }],
    ['$(credentials.path) is not on the host', { step: { script: 'ls $(credentials.path)' } }],
    ['securityContext.runAsUser: 1000 cannot be carried over', { step: { securityContext: { runAsUser: 1000 } } }],
    [
      'securityContext.seLinuxOptions: {"type":"spc_t"} cannot be carried over',
      { spec: { stepTemplate: { securityContext: { seLinuxOptions: { type: 'spc_t' } } } } },
    ],
    ['volume ssh: the twin needs this name', { spec: { volumes: [{ name: 'ssh', emptyDir: {} }] } }],
  ])('%s', (reason, { step = {}, spec = {} }) => {
    expect(refusalOf(taskWith(step, spec))).toEqual({ code: 'taskgen.refused', reasons: [`step build: ${reason}`] });
  });

  test('all reasons at once', () => {
    const { reasons } = refusalOf(taskWith({ envFrom: [], ref: {} }, { sidecars: [{ name: 'a' }, { name: 'b' }] }));
    expect(reasons).toHaveLength(4);
  });

  test('what another step has is none of the remote step’s business', () => {
    const other = taskWith({
      name: 'other',
      envFrom: [{ configMapRef: { name: 'x' } }],
      securityContext: { runAsUser: 1000 },
    });
    const [, steps = ''] = other.split('  steps:\n');
    expect(twinOf(taskWith({}) + steps)).toContain('runAsUser: 1000');
  });
});

describe('a securityContext becomes options of podman', () => {
  test.each([
    [
      { capabilities: { add: ['SETFCAP', 'SYS_ADMIN'], drop: ['ALL'] } },
      '--cap-drop=ALL --cap-add=SETFCAP --cap-add=SYS_ADMIN',
    ],
    [{ privileged: true, runAsUser: 0, runAsGroup: 0, runAsNonRoot: false }, '--privileged'],
    [{ privileged: false, allowPrivilegeEscalation: true, readOnlyRootFilesystem: false }, ''],
    [{ allowPrivilegeEscalation: false, readOnlyRootFilesystem: true }, '--security-opt=no-new-privileges --read-only'],
  ])('%j', (securityContext, options) => {
    expect(twinOf(taskWith({ securityContext }))).toContain(`podman_options=(${options})\n`);
  });

  test('the step’s own counts more than the template’s', () => {
    const template = { securityContext: { privileged: true, capabilities: { add: ['CHOWN'] } } };
    const twin = twinOf(taskWith({ securityContext: { privileged: false } }, { stepTemplate: template }));
    expect(twin).toContain('podman_options=(--cap-add=CHOWN)\n');
  });
});
