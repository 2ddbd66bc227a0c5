# It reads a file from its stdin and by its path, and leaves one in its working directory.
cwlVersion: v1.0
class: CommandLineTool
baseCommand: [sh, -c]
arguments: ['cat - "$0" > second.txt']
stdin: $(inputs.before.path)
inputs:
  before:
    type: File
    inputBinding: {}
outputs:
  written:
    type: File
    outputBinding:
      glob: second.txt
