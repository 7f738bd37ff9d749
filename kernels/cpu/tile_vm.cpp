// tile vm
