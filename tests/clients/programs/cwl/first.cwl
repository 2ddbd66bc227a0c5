# What it writes is its stdout.
cwlVersion: v1.0
class: CommandLineTool
baseCommand: echo
inputs:
  word:
    type: string
    inputBinding: {}
outputs:
  written:
    type: stdout
stdout: first.txt
