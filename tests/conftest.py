import torch
from hypothesis import settings

# the models in tests are so small that a second thread only waits
torch.set_num_threads(1)


# how long an example takes says more about the machine than about the code
settings.register_profile("trix", deadline=None)
settings.load_profile("trix")
