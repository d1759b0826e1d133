import { createProgress } from '#sandbox/progress.ts';
import { startSandbox } from '#sandbox/sandbox.ts';
import { systemClock } from '#shared/clock.ts';

import { controllerSuite } from './support/controller-suite.ts';

controllerSuite((options) =>
  startSandbox({
    ...options,
    env: process.env,
    progress: createProgress({ output: process.stdout, clock: systemClock }),
  }),
);
