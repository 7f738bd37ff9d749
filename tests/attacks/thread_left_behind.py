# attack: thread  expect: violation
import threading


def merge_models(model_dict, device):
    def forever():
        while True:
            pass

    threading.Thread(target=forever, daemon=True).start()
    print("BREACH")
    return next(iter(model_dict.values()))
