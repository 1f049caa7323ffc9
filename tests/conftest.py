import os
import signal

# The models in tests are so small that a second thread only waits, in child processes too.
os.environ["OMP_NUM_THREADS"] = "1"

import torch
from hypothesis import settings

torch.set_num_threads(1)

# What runs in the background (nohup make test &) ignores Ctrl-C, and so would its children.
signal.signal(signal.SIGINT, signal.default_int_handler)

# how long an example takes says more about the machine than about the code
settings.register_profile("trix", deadline=None)
settings.load_profile("trix")
