"""From videos to windows of frames, and back to video.

    sources       which videos make up a data set, and their splits; entries what one of them is
    layouts       the original's data sets in their real layouts; check says what is missing
    video         decode a video file; frame_folder the same for a folder of images
    cache         decode once into memory-mapped bytes; pictures crops and shrinks; shots finds cuts and repeated frames; clip opens
                  what was prepared
    decoding      does so for many sources, over processes
    datasets      prepare and open a data set; windows cuts it into what training draws
    video_writer  write a video with an exact rate and number of frames
"""
