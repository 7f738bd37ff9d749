# attack: python  expect: runtime
# an error that cannot be shown


def merge_models(model_dict, device):
    class PermissionErrorLike(BaseException):
        def __str__(self):
            raise self

    raise PermissionErrorLike
