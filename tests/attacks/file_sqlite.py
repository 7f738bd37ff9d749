# attack: file  expect: violation|runtime|import
import sqlite3


def merge_models(model_dict, device):
    sqlite3.connect("/tmp/selfdev_attack").execute("create table t (x)")
    print("BREACH")
    return list(model_dict.values())[0]
