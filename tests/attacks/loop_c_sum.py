# attack: loop  expect: timeout
# The time passes within one C call.


def merge_models(model_dict, device):
    print("BREACH", sum(range(10**18)))
