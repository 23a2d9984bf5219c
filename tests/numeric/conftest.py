"""One thread for torch: pytest's workers share the cores, and torch's threads wait spinning."""

import torch

torch.set_num_threads(1)
