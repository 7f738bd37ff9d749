# attack: proc  expect: violation


def merge_models(model_dict, device):
    for pid in ("self", "1", "2", "3"):
        try:
            open(f"/proc/{pid}/mem", "r+b")
            print("BREACH")
        except OSError:
            pass
    return list(model_dict.values())[0]
