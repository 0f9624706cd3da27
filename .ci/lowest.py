"""Constraints for pip that pin each requirement to its lowest version: lowest.py PYPROJECT > constraints.txt"""

import re
import sys
import tomllib

with open(sys.argv[1], "rb") as file:
    project = tomllib.load(file)["project"]
for requirement in project["dependencies"] + project["optional-dependencies"]["dev"]:
    name, version = re.match(r"([\w-]+)(?:\[.*\])?>=([\d.]+)", requirement).groups()
    print(f"{name}=={version}")
