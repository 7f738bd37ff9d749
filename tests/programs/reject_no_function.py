# expect: reject no_function
import torch

x = 1
