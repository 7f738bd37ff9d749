# attack: python  expect: runtime
# The error cannot be shown.


def merge_models(model_dict, device):
    class PermissionErrorLike(BaseException):
        def __str__(self):
            raise self

    raise PermissionErrorLike
