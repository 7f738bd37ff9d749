import os


def merge_models(model_dict, device):
    """Rejected as a violation: nothing a program does reaches the host."""
    os.system("touch /tmp/was-here")
    return sum(model_dict.values())
