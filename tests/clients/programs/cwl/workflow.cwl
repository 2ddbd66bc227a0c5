cwlVersion: v1.0
class: Workflow
inputs:
  word: string
outputs:
  result:
    type: File
    outputSource: second/written
steps:
  first:
    run: first.cwl
    in:
      word: word
    out: [written]
  second:
    run: second.cwl
    in:
      before: first/written
    out: [written]
