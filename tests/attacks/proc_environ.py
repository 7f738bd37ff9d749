# attack: proc  expect: violation


def merge_models(model_dict, device):
    for pid in ("self", "1", "2", "3"):
        try:
            print("BREACH", open(f"/proc/{pid}/environ").read())
        except OSError:
            pass
    return list(model_dict.values())[0]
